"""What have the filters of a trained CNN learned?"""
